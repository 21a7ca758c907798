import react from "@vitejs/plugin-react";
import { loadEnv } from "vite";
import { defineConfig } from "vitest/config";

const { HTTP_PORT = "8080" } = loadEnv("", ".", "HTTP_PORT"); // the same variable as for `make up`
const service = { target: `http://localhost:${HTTP_PORT}` };

export default defineConfig({
  plugins: [react()],
  // If these values were strings, Vite would change the Host header, and the service would refuse uploads.
  server: { proxy: { "/api": service, "/openapi.json": service } },
  build: {
    chunkSizeWarningLimit: 2000, // Swagger UI is one bundle of 1.5 MB; only /docs loads it
    rolldownOptions: { input: ["index.html", "docs.html"] },
  },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"] },
});
