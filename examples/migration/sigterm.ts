import { onShutdown } from 'middy-post-invoke'
import { connect } from '../readme/shop.ts'

const client = await connect()

// #region before
export const before = () => {
  process.on('SIGTERM', async () => {
    await client.end()
    process.exit(0)
  })
}
// #endregion

// #region after
export const after = () => {
  onShutdown(() => client.end(), { name: 'database' })
}
// #endregion
