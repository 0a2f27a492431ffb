/** There is no such flag. The message says what there is, and what may help. */
export class UnknownFlagError extends Error {
  override readonly name = "UnknownFlagError";
}

/** The value does not fit the flag. The message names the flag, its type, and what was given. */
export class InvalidValueError extends Error {
  override readonly name = "InvalidValueError";
}

/** An entity id that cannot be: empty, over 255 characters, or with control characters. */
export class InvalidEntityError extends Error {
  override readonly name = "InvalidEntityError";
}

/** An override of a flag that does not vary. */
export class GlobalFlagError extends Error {
  override readonly name = "GlobalFlagError";
}

/** The database lacks our functions, or the rights to call them. */
export class SchemaError extends Error {
  override readonly name = "SchemaError";
}

/** What an error of the functions in `migrations/` means to who called them. Others stay as they are. */
export function toAdminError(error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error)) return error;
  const hint = "hint" in error && typeof error.hint === "string" ? error.hint : undefined;
  const message = hint === undefined ? error.message : `${error.message}. ${hint}`;
  switch (error.code) {
    case "PF001":
      return new UnknownFlagError(message, { cause: error });
    case "PF002":
      return new InvalidValueError(message, { cause: error });
    case "PF003":
      return new GlobalFlagError(message, { cause: error });
    case "PF004":
      return new InvalidEntityError(message, { cause: error });
    // Undefined function, table, schema.
    case "42883":
    case "42P01":
    case "3F000":
      return new SchemaError(
        `Cannot use the database: pbflagd's functions are not in it; run "pbflagd migrate" first, got: ${error.message}`,
        { cause: error },
      );
    case "42501":
      return new SchemaError(
        `Cannot use the database: the role lacks rights that docs/database.md lists, got: ${error.message}`,
        { cause: error },
      );
    default:
      return error;
  }
}
