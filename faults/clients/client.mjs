// Sends the requests of a file, one `METHOD TAB PATH TAB BODY` a line, and prints status and digest of each answer.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const [url, file, framing] = process.argv.slice(2);
for (const line of readFileSync(file, "utf-8").split("\n").filter(Boolean)) {
  const [method, path, text] = line.split("\t");
  const body = !text ? undefined : framing === "chunked" ? new Blob([text]).stream() : text;
  const headers = { "content-type": "application/json", "x-request-id": "campaign" };
  const answer = await fetch(url + path, { method, headers, body, duplex: "half" });
  const digest = createHash("sha256").update(Buffer.from(await answer.arrayBuffer())).digest("hex");
  console.log(`${answer.status} ${digest}`);
}
