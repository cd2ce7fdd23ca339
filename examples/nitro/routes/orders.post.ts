import { defineHandler } from 'nitro/h3'

export default defineHandler(event => {
  event.waitUntil(fetch(`${process.env.SERVICES_URL}/audit`, { method: 'POST' }))
  event.res.status = 201
  return { placed: 'tea' }
})
