/// What the daemons need of a scenario beyond what a simulation does.
#pragma once

#include "base/status.h"
#include "config/model_card.h"
#include "config/scenario.h"

namespace tern {

/// Shape and classes of the data, for who doesn't have them: model.input and model.classes, or what
/// is known of the source. Errors: kInvalidArgument with Where{key}.
Result<TaskShape> task_shape(const Scenario& scenario);

/// Is everything there that a coordinator can't do without, listen, state_dir, key and clients, and
/// is its endpoint one? Files aren't opened. Errors: kInvalidArgument with Where{key}.
Status check_server(const Scenario& scenario);
/// The same for a client: connect, server_key, key and state_dir.
Status check_client(const Scenario& scenario);

}  // namespace tern
