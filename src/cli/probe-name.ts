// What the doctor and its probe in the function's process both know. Nothing else may stand here: it is loaded on both sides.

export const PROBE_CHANNEL = 'post-invoke-cli:probe'
/** Told once the handler's module has been loaded. */
export const LOADED_CHANNEL = 'post-invoke-cli:loaded'
export const PROBE_TASK = 'post-invoke doctor'
