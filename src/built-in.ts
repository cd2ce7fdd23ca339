/**
 * Loads a module of Node.js itself when it is called; an import would load it at once, with all that it needs. A variable,
 * because minifiers shorten no members.
 */
export const builtIn: typeof process.getBuiltinModule = process.getBuiltinModule
