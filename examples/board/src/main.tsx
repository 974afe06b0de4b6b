import { createRoot } from "react-dom/client";
import "./styles/base.css";
import "./styles/page.css";
import "./styles/strip.css";
import "./styles/lists.css";
import "./styles/dialogs.css";
import "./styles/adapted.css";
import { App } from "./ui/app.js";

const root = document.getElementById("root");
if (root !== null) createRoot(root).render(<App />);
