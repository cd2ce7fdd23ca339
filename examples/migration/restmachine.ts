import middy from '@middy/core'
import postInvoke, { resource } from 'middy-post-invoke'
import { connect } from '../readme/shop.ts'

const database = resource(connect, client => client.end(), { name: 'database' })

export const handler = middy()
  .use(postInvoke())
  .handler(async () => {
    const client = await database()
    return { statusCode: 200, body: await client.query('select * from users') }
  })
