import { useState } from "react";

/** The user's own image; over it, once it is there, what the model saw. */
export function Thumbnail({ preview, image }: { preview: string; image: string | null }) {
  const [unreadable, setUnreadable] = useState(false);
  const [covered, setCovered] = useState(false);
  return (
    <div className="thumbnail">
      {!unreadable && !covered && (
        <img src={preview} alt="" decoding="async" onError={() => setUnreadable(true)} />
      )}
      {image && (
        <img
          className={covered ? "pixels shown" : "pixels"}
          src={image}
          alt="As the model saw it"
          title="As the model saw it: 32 × 32 pixels"
          onLoad={() => setCovered(true)}
        />
      )}
    </div>
  );
}
