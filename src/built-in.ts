/** A module of Node.js itself, loaded when it is asked for. What is imported is loaded at once, with all that it needs. */
export const builtIn: typeof process.getBuiltinModule = process.getBuiltinModule
