import type { Logger, LogLevel } from "../telemetry/logger.ts";

/** Also says when its level is changed. */
export function withLevelTold(logger: Logger, tell: (level: LogLevel) => void): Logger {
  return Object.create(logger, {
    level: {
      get: () => logger.level,
      set(level: LogLevel) {
        logger.level = level;
        tell(level);
      },
    },
  });
}

/** Of what every process of a daemon learns the primary tells; of the others it is in the log at level `debug`. */
export function withQuietInfo(logger: Logger): Logger {
  return Object.create(logger, { info: { value: logger.debug.bind(logger) } });
}
