/**
 * A module of Node.js itself, loaded when it is asked for. What is imported is loaded at once, with all that it needs. For what
 * a function's bundle carries: no minifier shortens the name of a member.
 */
export const builtIn: typeof process.getBuiltinModule = process.getBuiltinModule
