import { readSample } from "../api";
import { useAction } from "./action";
import { Notice } from "./Notice";

// The files in public/samples. They do not depend on the classes of the model.
const samples = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

type Props = { onFiles: (files: readonly File[]) => void };

export function Samples({ onFiles }: Props) {
  return (
    <div className="samples">
      <p id="samples-title">No image at hand? Try a sample.</p>
      <ul aria-labelledby="samples-title">
        {samples.map((name) => (
          <Sample key={name} name={name} onFiles={onFiles} />
        ))}
      </ul>
    </div>
  );
}

function Sample({ name, onFiles }: Props & { name: string }) {
  const { act, problem } = useAction(async () => onFiles([await readSample(name)]));
  return (
    <li>
      <button type="button" title={`Upload ${name}.jpg`} onClick={act}>
        <img src={`/samples/${name}.jpg`} alt={`Upload the sample ${name}`} width="44" height="44" />
      </button>
      {problem && <Notice problem={problem} />}
    </li>
  );
}
