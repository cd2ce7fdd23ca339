import { expectOrders } from './deployment.ts'
import { describeSam } from './sam.ts'

describeSam('sam', expectOrders)
