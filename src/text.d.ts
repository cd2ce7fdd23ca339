/** A module as the text of the script that the build makes of it. */
declare module '*?text' {
  const text: string
  export default text
}
