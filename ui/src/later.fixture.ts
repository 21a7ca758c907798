export type Later<T> = { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void };

/** A promise that the test settles when it wants: Promise.withResolvers, which our oldest Node does not have. */
export function makeLater<T>(): Later<T> {
  let settle: Omit<Later<T>, "promise"> = { resolve: () => {}, reject: () => {} };
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, ...settle };
}
