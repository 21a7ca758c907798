const HIDDEN_MS = 30_000; // a short look at another tab does not count

type Handlers = { onHidden: () => void; onVisible: () => void };

/**
 * Calls `onHidden` after the page has been hidden for 30 seconds, and then `onVisible` when it is visible again.
 * Returns a function that stops watching.
 */
export function watchVisibility({ onHidden, onVisible }: Handlers): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let hidden = false;
  const reportHidden = () => {
    hidden = true;
    onHidden();
  };
  const update = () => {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(reportHidden, HIDDEN_MS);
    } else if (hidden) {
      hidden = false;
      onVisible();
    }
  };
  update(); // a tab can be opened in the background
  document.addEventListener("visibilitychange", update);
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", update);
  };
}
