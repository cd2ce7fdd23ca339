import type { OpenNextConfig } from '@opennextjs/aws/types/open-next.js'

export default {
  default: {
    override: {
      // Or `lambda`, where the answer is not streamed.
      wrapper: () => import('./wrapper.ts').then(({ lambdaStreaming }) => lambdaStreaming),
    },
  },
} satisfies OpenNextConfig
