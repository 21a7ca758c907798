import { useRef, useState } from "react";
import { type ApiProblem, asProblem } from "../api";

type Action = { act: () => Promise<void>; busy: boolean; problem: ApiProblem | null };

/**
 * What a button asks of the service: once at a time, and with what it said instead. A busy button is
 * aria-disabled: one that is disabled loses the focus.
 */
export function useAction(ask: () => Promise<void>): Action {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiProblem | null>(null);
  const underWay = useRef(false); // a second click comes before `busy` is rendered
  const act = async () => {
    if (underWay.current) return;
    underWay.current = true;
    setBusy(true);
    setProblem(null);
    try {
      await ask();
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      underWay.current = false;
      setBusy(false);
    }
  };
  return { act, busy, problem };
}
