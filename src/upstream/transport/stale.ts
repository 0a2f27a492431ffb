/**
 * Milliseconds. Of a connection on which nothing was heard for so long one cannot know whether it is still there: a call
 * that it fails may be made once more. One that has just answered is there, and what breaks it is the call.
 */
export const QUIET_MS = 1_000;
