import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { VitePWA } from "vite-plugin-pwa";
import { defineConfig } from "vitest/config";

const client = (file: string): string =>
  fileURLToPath(new URL(`../../clients/typescript/src/${file}`, import.meta.url));

export default defineConfig({
  base: "/demo/",
  resolve: {
    // The client's own source, so that nothing has to be built before. It finds a React of its own otherwise.
    alias: [
      { find: /^@syncd\/client$/, replacement: client("index.ts") },
      { find: /^@syncd\/client\/history$/, replacement: client("history.ts") },
      { find: /^@syncd\/client\/order$/, replacement: client("order.ts") },
      { find: /^@syncd\/client\/react$/, replacement: client("react.ts") },
    ],
    dedupe: ["react", "react-dom"],
  },
  plugins: [
    react(),
    VitePWA({
      // The page offers to reload; nobody's half-written comment is taken away.
      registerType: "prompt",
      injectRegister: false,
      workbox: {
        globPatterns: ["**/*.{js,css,html,svg,webmanifest}"],
        navigateFallback: "/demo/index.html",
        navigateFallbackDenylist: [/^\/demo\/token/],
        // No runtime caching: answers of the server are the replica's business, never the worker's.
        runtimeCaching: [],
        cleanupOutdatedCaches: true,
      },
      manifest: {
        name: "syncd: the demo board",
        short_name: "Board",
        description: "A shared board that works without a network",
        display: "standalone",
        start_url: "/demo/",
        scope: "/demo/",
        background_color: "#f3f4f8",
        theme_color: "#4655c5",
        icons: [{ src: "icon.svg", sizes: "any", type: "image/svg+xml", purpose: "any" }],
      },
    }),
  ],
  build: { target: "es2022", modulePreload: { polyfill: false } },
  server: {
    // `syncd serve --demo` beside `npm run dev`
    proxy: Object.fromEntries(
      ["/sync", "/spaces", "/ws", "/demo/token"].map((path) => [
        path,
        { target: "http://127.0.0.1:3050", ws: true },
      ]),
    ),
  },
  test: { include: ["test/**/*.test.ts"] },
});
