/** Stands in for the browser's own, which jsdom does not have. */
export class FakeEventSource extends EventTarget {
  static readonly CLOSED = 2;
  static opened: FakeEventSource[] = [];
  readyState = 1;
  onopen = () => {};
  onerror = () => {};

  constructor(readonly url: string) {
    super();
    FakeEventSource.opened.push(this);
  }

  say(name: string, content: unknown): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(content) }));
  }

  close(): void {
    this.readyState = FakeEventSource.CLOSED;
  }
}
