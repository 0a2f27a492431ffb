/** The whole number above 0 that an option of the command line has to be. */
export function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number <= 0)
    throw new Error(`Cannot measure: --${name} must be a whole number above 0, got "${text}"`);
  return number;
}
