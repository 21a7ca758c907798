import { useRef, useState } from "react";
import type { ApiProblem, Prediction } from "../api";
import { saveFeedback } from "../prediction-requests";
import type { PredictionStore } from "../predictions";
import { useAction } from "./action";

type Feedback = {
  label: string | null; // the chosen label while it is being sent, otherwise the stored one
  choose: (label: string | null) => void;
  problem: ApiProblem | null;
};

/** Sends the feedback on a prediction, one request at a time. The label that was chosen last is sent last. */
export function useFeedback(store: PredictionStore, prediction: Prediction): Feedback {
  const [chosen, setChosen] = useState<string | null>(null);
  const latest = useRef(chosen); // can change while a request is running
  const { act, busy, problem } = useAction(async () => {
    for (;;) {
      const sent = latest.current;
      try {
        await saveFeedback(store, prediction, sent);
      } catch (error) {
        if (sent === latest.current) throw error; // otherwise the later choice is sent next
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
