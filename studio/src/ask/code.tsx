// The request as one would send it from elsewhere.
import { useState } from "preact/hooks";
import { currentKey } from "../api";
import { type Question, asCurl, asPython } from "./question";

export function RequestCode({ question }: { question: Question }) {
  const [language, setLanguage] = useState<"curl" | "Python">("curl");
  const [copied, setCopied] = useState("");
  const keyed = currentKey() !== "";
  const code = language === "curl" ? asCurl(question, keyed) : asPython(question, keyed);

  async function copy() {
    try {
      await navigator.clipboard.writeText(code);
      setCopied("Copied");
    } catch {
      setCopied("The browser does not let pages copy here: mark the text instead");
    }
    setTimeout(() => setCopied(""), 3000);
  }

  return (
    <details class="card code">
      <summary>The same request elsewhere</summary>
      <div class="row">
        {(["curl", "Python"] as const).map((one) => (
          <button key={one} class="quiet" aria-pressed={language === one} onClick={() => setLanguage(one)}>{one}</button>
        ))}
        <button onClick={copy}>Copy</button><span role="status" class="small">{copied}</span>
      </div>
      <pre tabIndex={0} aria-label={`The request in ${language}`}>{code}</pre>
    </details>
  );
}
