// On a clean checkout Jest does not know how long a file takes, and begins with the largest. Those that take longest are
// named here, so that none of them runs alone in the end. What is missing, or is no longer slow, costs time and nothing else.
import Sequencer from '@jest/test-sequencer'

const slowest = [
  'proof/interleavings',
  'runtime-clients/hand-off-bounds',
  'runtime-clients/ric4',
  'runtime-clients/node26',
  'runtime-clients/ric3',
  'runtime-clients/hand-off-deaths',
  'runtime-clients/many',
  'runtime-clients/streaming',
  'rie/events',
  'sandbox/command-line-verdict',
  'sandbox/command-line-invoke',
  'sandbox/command-line.test',
  'package/install',
  'package/tarball',
  'sandbox/command-line-doctor',
  'faults/api',
  'faults/tasks',
  'faults/handler',
  'examples/bundles',
]

const rank = ({ path }) => {
  const index = slowest.findIndex(name => path.includes(`/test/${name}`))
  return index < 0 ? slowest.length : index
}

export default class SlowestFirst extends Sequencer {
  sort(tests) {
    return super.sort(tests).sort((one, other) => rank(one) - rank(other))
  }
}
