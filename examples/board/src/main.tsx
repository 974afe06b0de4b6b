import { createRoot } from "react-dom/client";
import "./styles.css";
import { App } from "./ui/app.js";

const root = document.getElementById("root");
if (root !== null) createRoot(root).render(<App />);
