import { useRef, useState } from "react";
import { type ApiProblem, asProblem } from "../api";

type Action = { act: () => Promise<void>; busy: boolean; problem: ApiProblem | null };

/**
 * Runs the request of a button, and keeps the problem if it fails. Ignores clicks while a request runs.
 *
 * Mark a busy button with `aria-disabled`, because the browser takes the focus from a `disabled` button.
 */
export function useAction(request: () => Promise<void>): Action {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiProblem | null>(null);
  const running = useRef(false); // a second click can come before `busy` is rendered
  const act = async () => {
    if (running.current) return;
    running.current = true;
    setBusy(true);
    setProblem(null);
    try {
      await request();
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      running.current = false;
      setBusy(false);
    }
  };
  return { act, busy, problem };
}
