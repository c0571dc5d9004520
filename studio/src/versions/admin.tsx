// Publishing and serving another version: with an admin key, checked by the service before anything changes.
import { useState } from "preact/hooks";
import { Problem, type VersionItem, call, segment } from "../api";

interface State { version: string; published: string | null; refused: Record<string, string>; change?: { action: string; state: string; reason?: string } }
const STATE = "admin/v1/versions";
const PATIENCE_SECONDS = 60;

const second = () => new Promise((done) => setTimeout(done, 1000));

async function settled(state: State): Promise<State> {
  for (let tries = 0; state.change?.state === "working" && tries < 10 * PATIENCE_SECONDS; tries++) {
    await second();
    state = await call<State>(STATE);
  }
  return state;
}

/** What becomes of a published version: services look for it now and then, each at its own time. */
async function takenOver(version: string, state: State): Promise<string> {
  for (let tries = 0; tries < PATIENCE_SECONDS; tries++) {
    if (state.version === version) return `${version} is published and serves now.`;
    const refused = state.refused[version];
    if (refused) return `${version} is published, but this service refuses it and serves ${state.version} on: ${refused}`;
    await second();
    state = await call<State>(STATE);
  }
  return `${version} is published; this service serves ${state.version} until it looks for it (TWHIN_WATCH_SECONDS).`;
}

const refusal = (state: State) => `Refused: ${state.change?.reason}`;

/** What an error means here. Why a version was refused, only the state of administration says. */
async function whyNot(error: Error): Promise<string> {
  if (!(error instanceof Problem)) return error.message;
  if (error.status === 404 && error.code !== "version_not_found") return "Administration is off: start the service with TWHIN_ADMIN_KEYS, and enter such a key here.";
  const state = error.status === 409 ? await call<State>(STATE).catch(() => undefined) : undefined;
  return state?.change?.state === "failed" ? refusal(state) : error.message;
}

export function Administration({ of, onChanged }: { of: VersionItem; onChanged: () => void }) {
  const [said, setSaid] = useState("");
  const [sure, setSure] = useState("");
  const [working, setWorking] = useState(false);
  const { version, serving, published } = of;
  const path = `admin/v1/versions/${segment(version)}`;

  async function change(what: string, path: string, meanwhile: string) {
    setSure("");
    setWorking(true);
    setSaid(meanwhile);
    try {
      const state = await settled(await call<State>(path, {}));
      if (state.change?.state === "failed") setSaid(refusal(state));
      else if (what === PUBLISH) {
        setSaid(`${version} is published. Services take it over at their next look…`);
        setSaid(await takenOver(version, state));
      } else setSaid(`${state.version} serves now.`);
    } catch (error) {
      setSaid(await whyNot(error as Error));
    }
    setWorking(false);
    onChanged();
  }

  const button = (what: string, path: string, meanwhile: string) =>
    sure === what ? <button class="danger" onClick={() => change(what, path, meanwhile)}>Yes, {what.toLowerCase()} now</button>
      : <button class="quiet" disabled={working} onClick={() => setSure(what)}>{what}</button>;
  return (
    <div class="administration">
      <div class="row">
        {!published && button(PUBLISH, `${path}/publish`, "The service checks every byte, and its gates…")}
        {!serving && button(published ? "Serve" : "Publish and serve", `${path}/activate`, "The service loads and tests it; the old one serves meanwhile…")}
        {serving && button("Roll back", "admin/v1/rollback", "The service loads and tests the one before; this one serves meanwhile…")}
        {sure && <button class="quiet" onClick={() => setSure("")}>Leave it</button>}
        <span role="status" class="small">{said}</span>
      </div>
      {!published && !serving && (
        <p class="soft small">Publish: every byte and the gates are checked, then each service over this directory takes it over at its own time.
          Publish and serve: this service loads and tests it first, and where that fails nothing is published.</p>
      )}
    </div>
  );
}

const PUBLISH = "Publish";
