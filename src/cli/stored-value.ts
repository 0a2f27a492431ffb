/** A value from the database, which is a JSON text, as people read it: texts without quotes. */
export function toReadable(json: string | undefined): string {
  if (json === undefined) return "-";
  const value = json.startsWith('"') ? String(JSON.parse(json)) : "";
  return value === "" ? json : value;
}

/** The same for machines. Integers that a double cannot hold are texts, as in the JSON of protobuf. */
export function toMachineReadable(json: string | undefined): unknown {
  if (json === undefined) return null;
  // Texts are matched as well, so that digits inside them are left alone.
  const exact = json.replaceAll(/"(?:[^"\\]|\\.)*"|-?[\d.eE+-]+/g, (part) =>
    /^-?\d{16,}$/.test(part) && !Number.isSafeInteger(Number(part)) ? `"${part}"` : part,
  );
  return JSON.parse(exact);
}
