import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  // As objects, which leave Host as it is: the service refuses what comes from another origin.
  server: {
    proxy: {
      "/api": { target: "http://localhost:8080" },
      "/openapi.json": { target: "http://localhost:8080" },
    },
  },
  build: {
    chunkSizeWarningLimit: 2000, // Swagger UI is one bundle of 1.5 MB, and only /docs loads it
    rolldownOptions: { input: ["index.html", "docs.html"] },
  },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"] },
});
