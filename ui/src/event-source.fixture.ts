/** Replaces the browser's EventSource, which jsdom does not have. */
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

  emit(name: string, content: unknown): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(content) }));
  }

  close(): void {
    this.readyState = FakeEventSource.CLOSED;
  }
}
