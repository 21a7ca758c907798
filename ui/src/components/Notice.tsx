import type { ApiProblem } from "../api";

/** What the service said instead, and a way to ask again where that makes sense. */
export function Notice({ problem, onTryAgain }: { problem: ApiProblem; onTryAgain?: () => void }) {
  return (
    <div className="notice" role="alert">
      <p>
        <strong>{problem.title}.</strong> {problem.detail}
      </p>
      {onTryAgain && (
        <button type="button" className="button" onClick={onTryAgain}>
          Try again
        </button>
      )}
    </div>
  );
}
