const AWAY_MS = 30_000; // a glance at another tab is no reason to let go of anything

type Handlers = { onAway: () => void; onBack: () => void };

/** Tells when nobody has seen the page for a while, and when somebody does again; what it returns ends it. */
export function watchSight({ onAway, onBack }: Handlers): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let away = false;
  const leave = () => {
    away = true;
    onAway();
  };
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(leave, AWAY_MS);
    } else if (away) {
      away = false;
      onBack();
    }
  };
  look(); // a tab may be opened in the background
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}
