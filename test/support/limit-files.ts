/**
 * A command that runs another one, which can write no file of more than so many kilobytes: what is longer is refused in
 * the middle, as on a disk that is full.
 */
export function limitFiles(kilobytesMax: number, command: readonly string[]): readonly string[] {
  // Some shells count it in blocks of 512 bytes, some in twice that.
  return ["/bin/sh", "-c", `ulimit -f ${kilobytesMax}; exec "$0" "$@"`, ...command];
}
