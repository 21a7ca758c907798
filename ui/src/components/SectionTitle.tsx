import type { PropsWithChildren, RefObject } from "react";

type Props = PropsWithChildren<{ id: string; title: string; heading: RefObject<HTMLHeadingElement | null> }>;

/** A heading that can receive the focus, and the section's actions beside it. */
export function SectionTitle({ id, title, heading, children }: Props) {
  return (
    <div className="section-title">
      <h2 id={id} ref={heading} tabIndex={-1}>
        {title}
      </h2>
      {children}
    </div>
  );
}
