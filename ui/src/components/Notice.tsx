import type { ApiProblem } from "../api";
import type { FocusTarget } from "./focus";
import { TransientButton } from "./TransientButton";

type Props = {
  problem: Pick<ApiProblem, "title" | "detail">;
  retry?: { act: () => void; nextFocus: FocusTarget };
};

/** Shows a problem. If `retry` is given, a button repeats the request. */
export function Notice({ problem, retry }: Props) {
  return (
    <div className="notice" role="alert">
      <p>
        <strong>{problem.title}.</strong> {problem.detail}
      </p>
      {retry && (
        <TransientButton nextFocus={retry.nextFocus} onClick={retry.act}>
          Try again
        </TransientButton>
      )}
    </div>
  );
}
