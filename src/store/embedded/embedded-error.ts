/** The embedded database cannot be had. The message is one line that names the folder or program and what to do. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}

const PLAIN_REASONS: Readonly<Record<string, string>> = {
  EACCES: "no write permission",
  EPERM: "no permission",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  ENOTDIR: "a part of its path is a file",
  EEXIST: "it is a file",
};

/** What a failed call of the operating system says, short enough for the end of a sentence. */
export function reasonOf(error: unknown): string {
  const plain = PLAIN_REASONS[errorCode(error) ?? ""];
  return plain ?? (error instanceof Error ? error.message : String(error));
}

/** The code of a failed call of the operating system, such as ENOENT. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
