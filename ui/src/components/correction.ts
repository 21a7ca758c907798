import { useRef, useState } from "react";
import type { ApiProblem, Prediction } from "../api";
import { correct } from "../history";
import type { PredictionStore } from "../predictions";
import { useAction } from "./action";

type Corrections = {
  label: string | null; // what was chosen, while it is on the way; else what is stored
  choose: (label: string | null) => void;
  problem: ApiProblem | null;
};

/** One correction of a prediction at a time: whichever was chosen last is sent last. */
export function useCorrections(store: PredictionStore, prediction: Prediction): Corrections {
  const [chosen, setChosen] = useState<string | null>(null);
  const latest = useRef(chosen); // what is chosen while another one is under way
  const { act, busy, problem } = useAction(async () => {
    for (;;) {
      const sent = latest.current;
      try {
        await correct(store, prediction, sent);
      } catch (error) {
        if (sent === latest.current) throw error; // else the later choice takes its place
      }
      if (sent === latest.current) return;
    }
  });
  const choose = (label: string | null) => {
    latest.current = label;
    setChosen(label);
    void act();
  };
  return { label: busy ? chosen : prediction.feedback, choose, problem };
}
