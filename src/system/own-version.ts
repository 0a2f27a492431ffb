import { readFileSync } from "node:fs";

// The same way from src/system and from dist/bundle.
const manifestUrl = new URL("../../package.json", import.meta.url);

/** The version of pbflagd, as package.json has it. */
export function readOwnVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(manifestUrl, "utf8"));
  const found =
    typeof manifest === "object" && manifest !== null && "version" in manifest && manifest.version;
  return typeof found === "string" ? found : "unknown";
}
