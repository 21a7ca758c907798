import { useEffect } from "react";
import type { UploadQueue } from "../upload-queue";

/** Lets the browser ask for confirmation before the page is closed and uploads are lost. */
export function useLeaveGuard(queue: UploadQueue): void {
  useEffect(() => {
    const guard = (event: BeforeUnloadEvent) => {
      if (queue.hasUnanswered) event.preventDefault();
    };
    window.addEventListener("beforeunload", guard);
    return () => window.removeEventListener("beforeunload", guard);
  }, [queue]);
}
