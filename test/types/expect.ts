/** Whether two types are the same, `any` told apart from the rest. */
export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles where `Condition` is `true`. */
export const check = <Condition extends true>(): Condition | undefined => undefined
