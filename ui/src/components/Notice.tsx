import type { ApiProblem } from "../api";
import type { Place } from "./focus";
import { PassingButton } from "./PassingButton";

type Props = {
  problem: Pick<ApiProblem, "title" | "detail">;
  again?: { ask: () => void; heir: Place };
};

/** What went wrong in words, most often the service's own, and a way to ask again where that makes sense. */
export function Notice({ problem, again }: Props) {
  return (
    <div className="notice" role="alert">
      <p>
        <strong>{problem.title}.</strong> {problem.detail}
      </p>
      {again && (
        <PassingButton heir={again.heir} onClick={again.ask}>
          Try again
        </PassingButton>
      )}
    </div>
  );
}
