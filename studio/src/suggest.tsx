// A box that suggests ids while one types: a combobox as screen readers and keyboards know it.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type Entity, search } from "./api";

interface Props {
  label: string;
  value?: string;
  type?: string | undefined;
  placeholder?: string;
  free?: boolean; // what is typed may be taken though no id begins so
  onChoose: (entity: Entity) => void;
}

const WAIT = 120;

export function Suggest({ label, value = "", type, placeholder, free, onChoose }: Props) {
  const [typed, setTyped] = useState(value);
  const [found, setFound] = useState<Entity[]>([]);
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const [none, setNone] = useState(false);
  const asked = useRef(0);
  const timer = useRef(0);
  const id = useId();

  useEffect(() => setTyped(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);

  function look(text: string, wait = WAIT) {
    const number = ++asked.current;
    clearTimeout(timer.current);
    timer.current = setTimeout(async () => {
      const matches = await search(text.trim(), type, 6).catch(() => []);
      if (number !== asked.current) return;
      setFound(matches);
      setNone(!matches.length && text.trim() !== "");
      setAt(-1);
      setOpen(true);
    }, wait) as unknown as number;
  }

  function choose(entity: Entity) {
    asked.current++;
    setOpen(false);
    setTyped(entity.id);
    onChoose(entity);
  }

  async function enter() {
    if (open && at >= 0) return choose(found[at]!);
    const text = typed.trim();
    if (!text) return;
    const matches = await search(text, type, 6).catch(() => []);
    const exact = matches.find((one) => one.id === text) ?? (free ? undefined : matches[0]);
    if (exact) choose(exact);
    else if (free) choose({ type: type ?? "", id: text });
    else look(text, 0);
  }

  function onKey(event: KeyboardEvent) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return look(typed, 0);
      const step = event.key === "ArrowDown" ? 1 : -1;
      setAt((found.length + at + step + (at < 0 && step < 0 ? 1 : 0)) % Math.max(1, found.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      void enter();
    } else if (event.key === "Escape") setOpen(false);
  }

  return (
    <div class="suggest">
      <label for={id}>{label}</label>
      <input id={id} role="combobox" autocomplete="off" spellcheck={false} value={typed} placeholder={placeholder}
        aria-expanded={open && found.length > 0} aria-controls={`${id}-list`} aria-autocomplete="list"
        aria-activedescendant={open && at >= 0 ? `${id}-${at}` : undefined}
        onInput={(event) => { setTyped(event.currentTarget.value); look(event.currentTarget.value); }}
        onFocus={() => look(value === typed ? "" : typed, 0)}
        onBlur={() => { asked.current++; setOpen(false); }} onKeyDown={onKey} />
      {/* A list that scrolls would be a stop of Tab, on which it vanishes. */}
      <ul id={`${id}-list`} role="listbox" tabIndex={-1} aria-label={`${label}: suggestions`} hidden={!open || !found.length}>
        {found.map((one, i) => (
          <li key={`${one.type} ${one.id}`} id={`${id}-${i}`} role="option" aria-selected={i === at}
            onMouseDown={(event) => { event.preventDefault(); choose(one); }}>
            <bdi>{one.label ?? one.id}</bdi> <span class="soft">{one.label ? <bdi>{one.id}</bdi> : null} {type ? "" : one.type}</span>
          </li>
        ))}
      </ul>
      {open && none && <p class="soft small" role="status">{free ? "No id begins so; Enter asks all the same." : "No id begins so."}</p>}
    </div>
  );
}
