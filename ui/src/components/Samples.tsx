import { useState } from "react";
import { ApiProblem, readSample } from "../api";

// The files in public/samples. What the model can answer is the model's own business.
const samples = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

export function Samples({ onFiles }: { onFiles: (files: readonly File[]) => void }) {
  const [problem, setProblem] = useState<string | null>(null);
  const upload = async (name: string) => {
    try {
      onFiles([await readSample(name)]);
      setProblem(null);
    } catch (error) {
      setProblem(
        error instanceof ApiProblem ? `${error.title}. ${error.detail}` : "This sample cannot be read.",
      );
    }
  };
  return (
    <div className="samples">
      <p id="samples-title">Nothing at hand? Try one of these.</p>
      <ul aria-labelledby="samples-title">
        {samples.map((name) => (
          <li key={name}>
            <button type="button" title={`Upload ${name}.jpg`} onClick={() => upload(name)}>
              <img src={`/samples/${name}.jpg`} alt={`Upload the sample ${name}`} width="44" height="44" />
            </button>
          </li>
        ))}
      </ul>
      {problem && <p role="alert">{problem}</p>}
    </div>
  );
}
