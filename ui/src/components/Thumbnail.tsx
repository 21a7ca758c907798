import { useState } from "react";

/** Shows the user's file, and then the pixels that the model receives. */
export function Thumbnail({ preview, image }: { preview: string; image: string | null }) {
  const [unreadable, setUnreadable] = useState(false);
  const [replaced, setReplaced] = useState(false);
  return (
    <div className="thumbnail">
      {!unreadable && !replaced && (
        <img src={preview} alt="" decoding="async" onError={() => setUnreadable(true)} />
      )}
      {image && (
        <img
          className={replaced ? "pixels shown" : "pixels"}
          src={image}
          alt="As the model sees it"
          title="As the model sees it: 32 × 32 pixels"
          onLoad={() => setReplaced(true)}
        />
      )}
    </div>
  );
}
