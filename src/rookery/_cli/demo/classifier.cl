// A network of one hidden layer, learning by gradient descent on the squared hinge loss, one digit against the rest.
//
// Only +, -, * and comparisons of float32, each sum in the order of its index, and no product fused with a sum: every
// device that follows the standard computes the same bits, and so does reference.py. Work items beyond the end have
// nothing to do, because groups are of one fixed size.

#pragma OPENCL FP_CONTRACT OFF

// outputs[row, unit] = max(sum over k of inputs[row, k] * weights[k, unit], least)
kernel void layer(global const float *inputs, global const float *weights, global float *outputs,
                  int rows, int depth, int units, float least)
{
    int cell = get_global_id(0);
    if (cell >= rows * units)
        return;
    int row = cell / units, unit = cell % units;
    float sum = 0;
    for (int k = 0; k < depth; k++)
        sum += inputs[row * depth + k] * weights[k * units + unit];
    outputs[cell] = sum > least ? sum : least;
}

// The digit of the largest score in each row; the first of several.
kernel void choose(global const float *scores, global int *digits, int rows, int classes)
{
    int row = get_global_id(0);
    if (row >= rows)
        return;
    int best = 0;
    for (int digit = 1; digit < classes; digit++)
        if (scores[row * classes + digit] > scores[row * classes + best])
            best = digit;
    digits[row] = best;
}

// How each score should move: the right digit's up to at least 1, the others' down to at most -1.
kernel void correct(global const float *scores, global const int *labels, global float *moves,
                    int rows, int classes, float rate)
{
    int cell = get_global_id(0);
    if (cell >= rows * classes)
        return;
    float sign = labels[cell / classes] == cell % classes ? 1.0f : -1.0f;
    float missing = 1.0f - sign * scores[cell];
    moves[cell] = missing > 0 ? sign * missing * rate : 0.0f;
}

// How each hidden unit should move for the scores to move so. Units at rest have no part in them.
kernel void pass_back(global const float *moves, global const float *weights, global const float *hidden,
                      global float *hidden_moves, int rows, int units, int classes)
{
    int cell = get_global_id(0);
    if (cell >= rows * units)
        return;
    int row = cell / units, unit = cell % units;
    float sum = 0;
    for (int digit = 0; digit < classes; digit++)
        sum += moves[row * classes + digit] * weights[unit * classes + digit];
    hidden_moves[cell] = hidden[cell] > 0 ? sum : 0.0f;
}

// weights[k, unit] += sum over rows of inputs[row, k] * moves[row, unit]
kernel void learn(global const float *inputs, global const float *moves, global float *weights,
                  int rows, int depth, int units)
{
    int cell = get_global_id(0);
    if (cell >= depth * units)
        return;
    int k = cell / units, unit = cell % units;
    float sum = 0;
    for (int row = 0; row < rows; row++)
        sum += inputs[row * depth + k] * moves[row * units + unit];
    weights[cell] += sum;
}
