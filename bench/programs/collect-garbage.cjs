// Loaded into functions whose memory is measured: they collect their garbage when they are told to, by SIGUSR2.
process.on('SIGUSR2', () => {
  globalThis.gc()
})
