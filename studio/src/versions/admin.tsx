// Serving another version: with an admin key, checked and tested by the service before anything changes.
import { useState } from "preact/hooks";
import { Problem, call, segment } from "../api";

interface State { version: string; change?: { action: string; state: string; reason?: string } }

async function settled(state: State): Promise<State> {
  for (let tries = 0; state.change?.state === "working" && tries < 600; tries++) {
    await new Promise((done) => setTimeout(done, 1000));
    state = await call<State>("admin/v1/versions");
  }
  return state;
}

export function Administration({ version, serving, onChanged }: { version: string; serving: boolean; onChanged: () => void }) {
  const [said, setSaid] = useState("");
  const [sure, setSure] = useState("");
  const [working, setWorking] = useState(false);

  async function change(path: string) {
    setSure("");
    setWorking(true);
    setSaid("The service loads and tests it; the old one serves meanwhile…");
    try {
      const state = await settled(await call<State>(path, {}));
      setSaid(state.change?.state === "failed" ? `Refused: ${state.change.reason}` : `${state.version} serves now.`);
    } catch (error) {
      const off = error instanceof Problem && error.status === 404;
      setSaid(off ? "Administration is off: start the service with TWHIN_ADMIN_KEYS, and enter such a key here." : (error as Error).message);
    }
    setWorking(false);
    onChanged();
  }

  const button = (what: string, path: string) =>
    sure === what ? <button class="danger" onClick={() => change(path)}>Yes, {what.toLowerCase()} now</button>
      : <button class="quiet" disabled={working} onClick={() => setSure(what)}>{what}</button>;
  return (
    <div class="row">
      {!serving && button("Publish and serve", `admin/v1/versions/${segment(version)}/activate`)}
      {serving && button("Roll back", "admin/v1/rollback")}
      {sure && <button class="quiet" onClick={() => setSure("")}>Leave it</button>}
      <span role="status" class="small">{said}</span>
    </div>
  );
}
