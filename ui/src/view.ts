/** The views of the page. The fragment of the URL selects one. */
export type View = "upload" | "models";

export const addresses: Record<View, string> = { upload: "#/", models: "#/models" };

export function parseView(fragment: string): View {
  return fragment === addresses.models ? "models" : "upload";
}

export function watchView(onChange: () => void): () => void {
  window.addEventListener("hashchange", onChange);
  return () => window.removeEventListener("hashchange", onChange);
}
