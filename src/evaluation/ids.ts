const FLAG_ID_LENGTH_MAX = 512;
const ENTITY_ID_LENGTH_MAX = 255;

/** An id that no database can hold needs no look-up. */
export function canExist(flagId: string): boolean {
  return flagId !== "" && !isLonger(flagId, FLAG_ID_LENGTH_MAX) && !hasControlCharacter(flagId);
}

/** Whether an entity of this name can have overrides. */
export function canHaveOverrides(entityId: string): boolean {
  return entityId !== "" && !isLonger(entityId, ENTITY_ID_LENGTH_MAX) && !hasControlCharacter(entityId);
}

/** Counts characters as the database does: one outside the basic plane, an emoji for instance, is one and not two. */
function isLonger(text: string, charactersMax: number): boolean {
  if (text.length <= charactersMax) return false;
  return text.length > 2 * charactersMax || Array.from(text).length > charactersMax;
}

function hasControlCharacter(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}
