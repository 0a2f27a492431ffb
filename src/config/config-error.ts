/** Names everything that cannot be used, not just the first, each as the operator wrote it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";

  constructor(readonly problems: readonly string[]) {
    super(["Cannot use configuration:", ...problems].join("\n  "));
  }
}
