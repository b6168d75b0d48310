/** The end of a program: open holds are settled by what is known, and the program waits for settlements. */

interface Leaving {
  readonly exitTimeoutMs: number;
  /** Settles all holds that are open, and waits for all settlements. */
  leave(timeoutMs: number): Promise<boolean>;
}

const leaving = new Set<WeakRef<Leaving>>();
let listens = false;

/** Lets a program wait for a client at its end. Returns what undoes this. */
export function atExit(client: Leaving): () => void {
  if (!listens) {
    listens = true;
    process.on("beforeExit", () => {
      const clients = [...leaving].map((one) => one.deref());
      leaving.clear();
      for (const one of clients) {
        void one?.leave(one.exitTimeoutMs);
      }
    });
  }
  const reference = new WeakRef(client);
  leaving.add(reference);
  return () => void leaving.delete(reference);
}
