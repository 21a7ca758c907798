import { useEffect } from "react";
import type { UploadQueue } from "../uploads";

/** The browser asks before it leaves the page while uploads would be lost with it. */
export function useLeaveGuard(queue: UploadQueue): void {
  useEffect(() => {
    const guard = (event: BeforeUnloadEvent) => {
      if (queue.underWay) event.preventDefault();
    };
    window.addEventListener("beforeunload", guard);
    return () => window.removeEventListener("beforeunload", guard);
  }, [queue]);
}
